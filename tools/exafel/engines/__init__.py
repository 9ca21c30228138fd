"""The field's own programs as drop-in engines of the same steps."""
