"""Where the provider's pages are. It serves device codes, and its discovery document is told so."""

import json

from django.contrib.auth.views import LoginView
from django.http import JsonResponse
from django.urls import include, path
from oauth2_provider.settings import oauth2_settings
from oauth2_provider.views import ConnectDiscoveryInfoView


class Discovery(ConnectDiscoveryInfoView):
    def get(self, request, *args, **kwargs):
        document = json.loads(super().get(request, *args, **kwargs).content)
        issuer = oauth2_settings.OIDC_ISS_ENDPOINT
        return JsonResponse(
            {**document, "device_authorization_endpoint": f"{issuer}/device-authorization/"}
        )


urlpatterns = [
    path("login/", LoginView.as_view()),
    path(".well-known/openid-configuration", Discovery.as_view()),
    path("", include("oauth2_provider.urls", namespace="oauth2_provider")),
]
