"""What keeps a warehouse sound: verify its files, bring an earlier run back, remove what nobody reads."""
