"""``python -m quicpipe_lab``: the command ``quicpipe-lab``."""

import sys

from quicpipe_lab.entry import main

sys.exit(main())
