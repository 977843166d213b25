"""What people look at: tables for the terminal, rows with their tokens colored, one self-contained HTML page.

Nothing here computes a training number; it reads finished columns, reports and results, and draws them.
"""
