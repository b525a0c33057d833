"""What the machine is: static facts in bytes, never a guess."""
