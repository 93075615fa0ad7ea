"""What plugins bring: the hooks they implement, the records they return, and the host that collects them."""
