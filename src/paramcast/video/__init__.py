"""Video question answering and text-video retrieval: the first application of the library."""
