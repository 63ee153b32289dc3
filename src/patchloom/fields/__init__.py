"""Values over the plane: arrays, noise by place, stores of tiles, and the weave of one field from another."""
