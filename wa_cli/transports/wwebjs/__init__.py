"""wwebjs-api, a gateway that runs WhatsApp Web in a browser: the only room that knows its JSON."""
