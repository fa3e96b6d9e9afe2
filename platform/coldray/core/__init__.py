"""What every stage needs: errors, memory, files, devices."""
