# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Generate, edit, caption and cycle in the browser, with a pipeline folder, by default the one in this repository:

    pip install 'itit-hf[app]'
    python examples/app.py
    python examples/app.py --model out/mine/pipeline --server_name 0.0.0.0 --server_port 7861

As `app.py` of a Space it takes the model from the variable ITIT_MODEL; space/ is the folder of one.
"""

from itit_hf.commands.app import main

if __name__ == "__main__":
    main()
