"""What an installation without a network needs: listed, bundled, checked, and put in its place.

`python3 -m deploy.airgap COMMAND` in this repository, `python3 airgap.pyz COMMAND` on the other
side, where there is nothing but Python. See README.md.
"""
