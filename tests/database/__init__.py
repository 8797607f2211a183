"""What the database promises, on every PostgreSQL found."""
