# The driver of the serial console waits for this.
PS1='AST# '
