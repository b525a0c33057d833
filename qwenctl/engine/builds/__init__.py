"""The official builds of llama.cpp: which suits a machine, download, unpack, and the installed ones."""
