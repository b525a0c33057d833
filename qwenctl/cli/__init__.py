"""The command line: one file a command, loaded when it is used. The only place that exits."""
