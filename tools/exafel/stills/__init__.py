"""From a frame to integrated lattices: spot finding, indexing, refinement, mosaicity, integration."""
