"""For authors of methods: a skeleton, a check on every family, a look inside, a certificate."""

from __future__ import annotations

from unibench.kit.checkup import Checkup as Checkup
from unibench.kit.checkup import Finding as Finding
from unibench.kit.checkup import checkup as checkup
from unibench.kit.rules import QUICK as QUICK
from unibench.kit.rules import RULES as RULES
from unibench.kit.testing import method_in as method_in
from unibench.kit.testing import task_in as task_in
from unibench.kit.testing import try_rule as try_rule
