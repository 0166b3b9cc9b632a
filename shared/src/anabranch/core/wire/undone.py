"""Names by which the offers and documents of compensations carry the results that they undo. Pure."""

from __future__ import annotations

from typing import Final

RESULT: Final = "result"
"""What templates of a compensation see: an object with the result of each key of the member that it undoes."""
SLICED_RESULTS: Final = "{result}"
"""Among the slices of an offer: that object for each member. No array has a name with braces."""
SLICED_INDEXES: Final = "{index}"
"""Among the slices: the index of the member that each member undoes, if the document has the arrays."""
