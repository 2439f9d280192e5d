"""What can be said of a choice of tokens beside the score: where they lie, how alike they are.

:mod:`unibench.diagnostics.places` looks at masks and layouts; it is not imported here, since rows
are read without numpy.
"""

from __future__ import annotations

from unibench.diagnostics.diagnosis import Diagnosis as Diagnosis
from unibench.diagnostics.diagnosis import is_diagnosis as is_diagnosis
from unibench.diagnostics.diagnosis import mean_diagnosis as mean_diagnosis
from unibench.diagnostics.scores import TokenScores as TokenScores
from unibench.diagnostics.scores import is_token_scores as is_token_scores
