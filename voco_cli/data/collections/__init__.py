"""Collections of public scans: those that the authors of VoCo pre-trained on, and your own."""
