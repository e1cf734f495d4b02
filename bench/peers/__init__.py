"""What people run today for the same job, written as they would write it."""
