"""From records to tables and figures. Never trains, never imports torch; knows no experiment by name."""
