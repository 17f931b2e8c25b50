"""The tools. This folder is yours: `copier update` never touches what is in it.

Adding a file is all it takes to add tools; README.md ("Add a tool") shows how. Files whose name begins with an
underscore are not loaded by themselves: put what several tools share there.
"""
