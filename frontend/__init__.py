"""The web page: a chat with the model, which speaks HTTP to the model server and to nobody else.

Importing the package switches off the look-ups that Gradio and its libraries make on their own
(usage statistics, version checks, the model hub). They read these variables when they are imported.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
