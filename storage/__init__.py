"""Where bytes last: one seam over local disks and object stores."""
