"""The servers the gateway is measured beside, each as its documentation recommends."""
