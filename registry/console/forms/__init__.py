"""What people type, a file for each page. Forms only read text into values; the services decide whether the values make sense."""
