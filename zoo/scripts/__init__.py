"""What train.py and validate.py run, and `zoo train` and `zoo validate`."""
