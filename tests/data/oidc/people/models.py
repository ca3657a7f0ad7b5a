"""The client: one id for a browser and for a device without one.

The product's own model knows one grant a client, and names this as the way to allow more.
"""

from oauth2_provider.models import AbstractApplication


class Application(AbstractApplication):
    class Meta(AbstractApplication.Meta):
        swappable = ""

    def allows_grant_type(self, *grant_types):
        mine = {self.GRANT_AUTHORIZATION_CODE, self.GRANT_DEVICE_CODE}
        return bool(mine.intersection(grant_types))
