"""What the doctor looks for, one module for each part of Baton."""
