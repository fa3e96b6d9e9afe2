"""Amazon ratings and reviews: as downloaded, their k-core, and the categories of a folder."""
