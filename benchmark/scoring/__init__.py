"""One map against one region: protocols, masks, controls and the scores."""
