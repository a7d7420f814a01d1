"""The pure rules of budgets: no input, no output, no clock."""
