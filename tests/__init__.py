"""What the product promises, part by part."""
