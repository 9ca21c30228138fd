"""The table of shots that the stills step leaves, one row a shot, whoever processed it."""
