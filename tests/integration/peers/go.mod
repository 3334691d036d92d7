module sluice/peers

go 1.21
