"""`python -m anabranch_taskgroup`"""

from __future__ import annotations

import sys

from anabranch_taskgroup.app import main

sys.exit(main())
