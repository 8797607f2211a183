"""The worker's edges: settings, logs, command line, adapters."""
