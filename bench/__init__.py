"""`make bench`: Baton beside its floors and its peers, in one run on one machine."""
