"""Personal data and secrets: ``personal_data`` finds them by a scan and small detectors."""
