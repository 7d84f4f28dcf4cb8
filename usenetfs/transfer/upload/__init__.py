"""From staging to the servers: settled blocks become articles (``uploader.py``), which are posted,
looked for and settled (``flight.py``)."""
