"""How the world is reached: settings, adapters, the composition root and the command line."""
