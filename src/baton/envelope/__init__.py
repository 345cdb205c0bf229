"""The CMCSP envelope: one context with all that belongs to it, as JSON. Pure."""
