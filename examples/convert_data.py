# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
r"""Turn a dataset of any kind into a Lance dataset, which is read row by row at any size:

    pip install 'itit-hf[lance]'
    python examples/convert_data.py path/to/shards --output data/pairs.lance
    python examples/train_itit.py --paired_dataset data/pairs.lance --tokenize online ...

Images are written as the bytes of their files, so the result is as large as they are. Parquet and webdataset archives
are read where they are and nothing else is written. Run the same command again after an interruption and it goes on
where it stopped.
"""

from itit_hf.commands.convert import main

if __name__ == "__main__":
    main()
