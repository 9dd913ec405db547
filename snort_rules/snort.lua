-- Snort 3 for Baton: `python -m controller.analyser` puts the rules beside this file and starts
--   snort -A alert_unixsock -l RUN -c snort.lua -i INTERFACE -s 65535 -k none

classifications =
{
    { name = 'connection-migration', priority = 1, text = 'Move the connection to another server' },
}

network = { checksum_eval = 'none' }    -- offloaded checksums are still partial here
