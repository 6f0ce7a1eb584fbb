"""Which steps are there? Each names the one before."""
