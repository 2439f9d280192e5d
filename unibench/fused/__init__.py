"""One prompt answered under many methods at once.

The vision tower and the processor see the prompt once. What differs between the methods is which
rows enter the decoder layers, so each method is a row of its own, with its budget, seed and
positions::

    prompt -> tower -> layer 0 ... k-1 -> layer k ...      the whole prompt, read once
                         |                  |
                         cut at 0           cut at k       each branches off where it first cuts

Rows of about one length go through a layer together. What stands in front of the first picture is
read once for all where vanilla is among them. They are decoded together too, each over what
its method has left in each layer, and leave when they have ended.
"""

from unibench.fused.apart import apart
from unibench.fused.grid import Fusion, Reply

__all__ = ["Fusion", "Reply", "apart"]
