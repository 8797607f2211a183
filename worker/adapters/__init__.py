"""One adapter a library: none imports another, none imports a pipeline."""
