"""What is asked: parameters to statements, rows to answers."""
