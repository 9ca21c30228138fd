"""From integrated lattices to merged structure factors: filters, scaling, error models, statistics."""
