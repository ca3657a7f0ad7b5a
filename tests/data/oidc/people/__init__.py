"""The provider's users, its one client, and what its tokens say."""
