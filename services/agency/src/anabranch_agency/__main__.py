"""`python -m anabranch_agency`"""

from __future__ import annotations

import sys

from anabranch_agency.app import main

sys.exit(main())
